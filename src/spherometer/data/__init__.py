"""Training data: image sets, reproducible paired views of them, and clean parts to probe."""

from spherometer.data._augment import PRESETS as PRESETS
from spherometer.data._augment import Augmentation as Augmentation
from spherometer.data._brain import BrainRecipe as BrainRecipe
from spherometer.data._brain import Brains as Brains
from spherometer.data._brain import make_brains as make_brains
from spherometer.data._decode import UnreadableImagesWarning as UnreadableImagesWarning
from spherometer.data._draws import Draws as Draws
from spherometer.data._draws import permutation as permutation
from spherometer.data._images import ImageSet as ImageSet
from spherometer.data._images import Split as Split
from spherometer.data._open import open_arrays as open_arrays
from spherometer.data._open import open_data as open_data
from spherometer.data._open import open_parts as open_parts
from spherometer.data._paired import ImageViews as ImageViews
from spherometer.data._registry import IMAGE_SETS as IMAGE_SETS
from spherometer.data._registry import load_images as load_images
from spherometer.data._source import ArrayImages as ArrayImages
from spherometer.data._source import LabelledImages as LabelledImages
from spherometer.data._source import Parts as Parts
from spherometer.data._text import TextPairs as TextPairs
from spherometer.data._text import Vocabulary as Vocabulary
from spherometer.data._text import words as words
from spherometer.data._text_files import open_text_pairs as open_text_pairs
from spherometer.data._views import DigitViews as DigitViews
from spherometer.data._wordnet import load_wordnet as load_wordnet
from spherometer.data._wordnet import read_synsets as read_synsets
