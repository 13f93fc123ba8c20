from .comparisons import Lpips as Lpips
from .comparisons import Psnr as Psnr
from .comparisons import Ssim as Ssim
