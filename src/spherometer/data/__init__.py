"""Training data: bundled image sets with fixed splits, and reproducible paired views of them."""

from spherometer.data._draws import Draws as Draws
from spherometer.data._draws import permutation as permutation
from spherometer.data._images import ImageSet as ImageSet
from spherometer.data._images import Split as Split
from spherometer.data._registry import IMAGE_SETS as IMAGE_SETS
from spherometer.data._registry import load_images as load_images
from spherometer.data._views import DigitViews as DigitViews
