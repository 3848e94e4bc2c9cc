"""Bits of a level, eight in a byte: a sixteenth of what they take as bfloat16."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def packed(bits: Tensor) -> Tensor:
    """Bits [B, H, W, C] as 0 and 1 of any type -> u8 [B, ceil(H*W*C / 8)], the first one lowest."""
    return torch.from_numpy(np.packbits(bits.flatten(1).to(torch.uint8).numpy(), axis=1, bitorder="little"))


def unpacked(words: Tensor, shape: tuple[int, int, int], kind: torch.dtype) -> Tensor:
    """The inverse: [B, H, W, C] as `kind`."""
    bits = np.unpackbits(words.numpy(), axis=1, count=int(np.prod(shape)), bitorder="little")
    return torch.from_numpy(bits).to(kind).view(len(words), *shape)
