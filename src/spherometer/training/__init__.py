"""Training: encoders, recipes, the loop, and encoders as files."""

from spherometer.training._encoder import ConvEncoder as ConvEncoder
from spherometer.training._encoder import encode as encode
from spherometer.training._files import load_encoder as load_encoder
from spherometer.training._files import save_encoder as save_encoder
from spherometer.training._loop import PairedViews as PairedViews
from spherometer.training._loop import TrainingLog as TrainingLog
from spherometer.training._loop import batches as batches
from spherometer.training._loop import train as train
from spherometer.training._recipe import Recipe as Recipe
