"""One thread a test: two that wait for each other at every small matrix take ten times as long."""

import torch

torch.set_num_threads(1)
