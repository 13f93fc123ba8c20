from .mixtures import Bargain as Bargain
from .mixtures import Pivot as Pivot
from .mixtures import PrimalDual as PrimalDual
from .mixtures import Quota as Quota
from .mixtures import Share as Share
from .mixtures import Watched as Watched
from .mixtures import Weighting as Weighting
