"""How fast a core of this machine multiplies matrices, found out in a moment."""

import time
from functools import cache

import torch

from tiebench.execution.environment import keep_torch_settings

PRODUCT_WIDTH, NUM_PRODUCTS = 512, 20


@cache
def measure_products() -> float:
    """Operations per second of one core, multiplying two matrices that stay in its cache."""
    with keep_torch_settings():
        torch.set_num_threads(1)
        matrix = torch.ones(PRODUCT_WIDTH, PRODUCT_WIDTH)
        torch.mm(matrix, matrix)  # the first one loads what the others use
        started = time.process_time()
        for _ in range(NUM_PRODUCTS):
            torch.mm(matrix, matrix)
        return NUM_PRODUCTS * 2 * PRODUCT_WIDTH**3 / max(time.process_time() - started, 1e-3)
