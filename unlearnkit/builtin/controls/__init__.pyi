from .rules import Averaged as Averaged
from .rules import ProportionalIntegral as ProportionalIntegral
