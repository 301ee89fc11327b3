"""Losses that optimise positions on the unit sphere: functions, and thin modules around them."""

from spherometer.losses._align_uniform import AlignUniformLoss as AlignUniformLoss
from spherometer.losses._align_uniform import align_loss as align_loss
from spherometer.losses._align_uniform import align_uniform_loss as align_uniform_loss
from spherometer.losses._align_uniform import uniform_loss as uniform_loss
from spherometer.losses._combined import CombinedLoss as CombinedLoss
from spherometer.losses._conditional import ConditionalAlignUniformLoss as ConditionalAlignUniformLoss
from spherometer.losses._conditional import (
    conditional_align_uniform_loss as conditional_align_uniform_loss,
)
from spherometer.losses._decoupled import DecoupledUniformityLoss as DecoupledUniformityLoss
from spherometer.losses._decoupled import decoupled_uniformity_loss as decoupled_uniformity_loss
from spherometer.losses._dense_align_uniform import DenseAlignUniformLoss as DenseAlignUniformLoss
from spherometer.losses._dense_info_nce import DenseInfoNCELoss as DenseInfoNCELoss
from spherometer.losses._energy import HypersphericalEnergyLoss as HypersphericalEnergyLoss
from spherometer.losses._energy import hyperspherical_energy_loss as hyperspherical_energy_loss
from spherometer.losses._info_nce import InfoNCELoss as InfoNCELoss
from spherometer.losses._info_nce import NTXentLoss as NTXentLoss
from spherometer.losses._info_nce import info_nce_loss as info_nce_loss
from spherometer.losses._info_nce import nt_xent_loss as nt_xent_loss
from spherometer.losses._queue import MemoryQueue as MemoryQueue
from spherometer.losses._sup_con import SupConLoss as SupConLoss
from spherometer.losses._sup_con import sup_con_loss as sup_con_loss
from spherometer.losses._y_aware import YAwareInfoNCELoss as YAwareInfoNCELoss
from spherometer.losses._y_aware import y_aware_info_nce_loss as y_aware_info_nce_loss
