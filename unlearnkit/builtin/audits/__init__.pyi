from .membership import Membership as Membership
from .outputs import Backdoor as Backdoor
from .outputs import CopySimilarity as CopySimilarity
from .training import FreshDecoder as FreshDecoder
from .training import Relearning as Relearning
