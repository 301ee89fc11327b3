"""Training: encoders, recipes, the loop, and encoders as files."""

from spherometer.training._conv import ConvEncoder as ConvEncoder
from spherometer.training._encoder import Encoded as Encoded
from spherometer.training._encoder import Encoder as Encoder
from spherometer.training._encoder import encode as encode
from spherometer.training._encoders import build_encoder as build_encoder
from spherometer.training._files import load_encoder as load_encoder
from spherometer.training._files import save_encoder as save_encoder
from spherometer.training._loop import PairedViews as PairedViews
from spherometer.training._loop import TrainingLog as TrainingLog
from spherometer.training._loop import batches as batches
from spherometer.training._loop import train as train
from spherometer.training._recipe import CheckpointRecipe as CheckpointRecipe
from spherometer.training._recipe import DataRecipe as DataRecipe
from spherometer.training._recipe import EncoderRecipe as EncoderRecipe
from spherometer.training._recipe import LogRecipe as LogRecipe
from spherometer.training._recipe import LossRecipe as LossRecipe
from spherometer.training._recipe import MethodRecipe as MethodRecipe
from spherometer.training._recipe import MonitorRecipe as MonitorRecipe
from spherometer.training._recipe import OptimizerRecipe as OptimizerRecipe
from spherometer.training._recipe import Recipe as Recipe
from spherometer.training._recipe import RunRecipe as RunRecipe
from spherometer.training._text import BagOfEmbeddings as BagOfEmbeddings
from spherometer.training._text import GRUEncoder as GRUEncoder
