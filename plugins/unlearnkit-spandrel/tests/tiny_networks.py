"""Every architecture that can be unlearned, at a tiny size: its class, what that takes, and the side of its inputs."""

from typing import Any

WINDOWS = {"embed_dim": 16, "num_heads": [2, 2], "window_size": 8, "upscale": 2}
DIRECT = {"upsampler": "pixelshuffledirect", "img_size": 16, "depths": [2, 2]}
U_NET = {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}
NARROW = [8, 8, 8, 8]

TINY: dict[str, tuple[str, dict[str, Any], int]] = {
    "ATD": ("ATD", {**WINDOWS, **DIRECT, "category_size": 16, "num_tokens": 8, "reducted_dim": 4}, 16),
    "CRAFT": ("CRAFT", {**WINDOWS, "depths": [2, 2], "window_size": 16}, 16),
    "Compact": ("Compact", {"num_feat": 8, "num_conv": 2, "upscale": 2}, 16),
    "DAT": ("DAT", {"embed_dim": 16, "depth": [2, 2], "num_heads": [2, 2], "upsampler": "pixelshuffledirect"}, 16),
    "DCTLSA": ("DCTLSA", {"nf": 15, "upscale": 2}, 16),
    "DITN": ("DITN", {"dim": 16, "ITL_blocks": 1, "SAL_blocks": 1, "upscale": 2}, 16),
    "DRCT": ("DRCT", {**WINDOWS, "img_size": 16, "depths": (1, 1), "upsampler": "pixelshuffle", "gc": 8}, 16),
    "DRUNet": ("DRUNet", {"in_nc": 4, "out_nc": 3, "nc": NARROW}, 16),
    "DnCNN": ("DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 8, "nb": 4}, 16),
    "ESRGAN": ("ESRGAN", {"num_filters": 8, "num_blocks": 2, "scale": 2}, 16),
    "FBCNN": ("FBCNN", {"nc": [8, 8, 8, 512]}, 16),
    "FDAT": ("FDAT", {"scale": 2, "embed_dim": 16, "num_groups": 2, "depth_per_group": 2, "num_heads": 2,
                      "mid_dim": 16, "upsampler_type": "pixelshuffledirect"}, 16),
    "FFTformer": ("FFTformer", {"dim": 8, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}, 32),
    "GRL": ("GRL", {"embed_dim": 16, "upscale": 2, "upsampler": "pixelshuffledirect", "img_size": 16, "depths": [1, 1],
                    "num_heads_window": [2, 2], "num_heads_stripe": [2, 2]}, 16),
    "HAT": ("HAT", {**WINDOWS, "img_size": 16, "depths": (1, 1), "upsampler": "pixelshuffle", "num_feat": 16,
                    "compress_ratio": 4, "squeeze_factor": 4}, 16),
    "HVICIDNet": ("HVICIDNet", {"channels": [8, 8, 16, 32]}, 16),
    "KBNet": ("KBNet_s", {**U_NET}, 16),
    "LaMa": ("LaMa", {"in_nc": 4}, 32),
    "MIGAN": ("MIGAN", {"widths": [16, 16, 8, 8]}, 32),
    "MMRealSR": ("MMRealSR", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 2, "num_grow_ch": 4,
                              "num_feats": NARROW, "num_blocks": [1, 1, 1, 1]}, 16),
    "MixDehazeNet": ("MixDehazeNet", {"embed_dims": [8, 16, 32, 16, 8], "depths": [1, 1, 1, 1, 1]}, 64),
    "MoESR": ("MoESR", {"scale": 2, "dim": 16, "n_blocks": 2, "n_block": 2, "expansion_factor": 1.5,
                        "upsample_dim": 16}, 16),
    "MoSR": ("MoSR", {"upscale": 2, "n_block": 2, "dim": 16}, 16),
    "NAFNet": ("NAFNet", {**U_NET}, 16),
    "OmniSR": ("OmniSR", {"num_feat": 16, "res_num": 2, "up_scale": 2}, 16),
    "PLKSR": ("PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2, "kernel_size": 5}, 16),
    "RCAN": ("RCAN", {"scale": 2, "n_resgroups": 2, "n_resblocks": 2, "n_feats": 8, "reduction": 4}, 16),
    "RGT": ("RGT", {"img_size": 16, "embed_dim": 16, "depth": [2, 2], "num_heads": [2, 2], "mlp_ratio": 2.0}, 16),
    "RealCUGAN": ("UpCunet2x", {}, 32),
    "RestoreFormer": ("RestoreFormer", {"n_embed": 16, "embed_dim": 16, "ch": 32, "ch_mult": (1, 1, 1, 1, 1, 1),
                                        "num_res_blocks": 1, "z_channels": 16}, 64),
    "RetinexFormer": ("RetinexFormer", {"n_feat": 8, "stage": 1}, 16),
    "SAFMN": ("SAFMN", {"dim": 8, "n_blocks": 2, "upscaling_factor": 2}, 16),
    "SAFMNBCIE": ("SAFMNBCIE", {"dim": 8, "n_blocks": 2, "num_layers": 2}, 16),
    "SCUNet": ("SCUNet", {"config": [1] * 7}, 64),
    "SPAN": ("SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}, 16),
    "SwiftSRGAN": ("SwiftSRGAN", {"num_channels": 8, "num_blocks": 2, "upscale_factor": 2}, 16),
    "Swin2SR": ("Swin2SR", {**WINDOWS, **DIRECT}, 16),
    "SwinIR": ("SwinIR", {**WINDOWS, **DIRECT}, 16),
    "Uformer": ("Uformer", {"img_size": 128, "embed_dim": 8, "depths": [1] * 9,
                            "num_heads": [1, 2, 2, 2, 2, 2, 2, 2, 1]}, 128),
}  # fmt: skip
