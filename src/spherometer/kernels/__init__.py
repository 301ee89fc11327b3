"""Similarity of samples by their meta-data."""

from spherometer.kernels._choose import as_kernel as as_kernel
from spherometer.kernels._choose import kernel_for as kernel_for
from spherometer.kernels._choose import kernel_from_text as kernel_from_text
from spherometer.kernels._kernel import Kernel as Kernel
from spherometer.kernels._kinds import Categorical as Categorical
from spherometer.kernels._kinds import Epanechnikov as Epanechnikov
from spherometer.kernels._kinds import Gaussian as Gaussian
from spherometer.kernels._kinds import Laplace as Laplace
from spherometer.kernels._kinds import Periodic as Periodic
from spherometer.kernels._mixtures import Product as Product
from spherometer.kernels._mixtures import WeightedSum as WeightedSum
