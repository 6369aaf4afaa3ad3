"""On which samples to train, decided while a model is trained."""

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.craig import Craig
from modyn.downsampling.data_diet import EL2N, GraNd
from modyn.downsampling.design import DOptimal
from modyn.downsampling.forgetting import Forgetting
from modyn.downsampling.gradmatch import GradMatch
from modyn.downsampling.herding import Herding
from modyn.downsampling.importance import GradNorm, Loss
from modyn.downsampling.infobatch import InfoBatch
from modyn.downsampling.kcenter import KcenterGreedy
from modyn.downsampling.rho import RHOLoss
from modyn.downsampling.rs2 import RS2
from modyn.downsampling.schedule import Schedule
from modyn.downsampling.submodular import Submodular
from modyn.downsampling.uncertainty import Uncertainty
from modyn.downsampling.uniform import Uniform

__all__ = [
    "Chosen",
    "Context",
    "Craig",
    "DOptimal",
    "Downsampler",
    "EL2N",
    "Forgetting",
    "GraNd",
    "GradMatch",
    "GradNorm",
    "Herding",
    "InfoBatch",
    "KcenterGreedy",
    "Loss",
    "Pool",
    "RHOLoss",
    "RS2",
    "Schedule",
    "Submodular",
    "Uncertainty",
    "Uniform",
]
