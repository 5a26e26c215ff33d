"""
=====================================
Convolutions, where images move
=====================================

When is a convolutional network worth its time? :class:`~skae.networks.ConvNetwork` puts
convolutions into :class:`~skae.AutoencoderTransformer`, for images given as flat rows. Here it
stands beside the dense network on digits as they come, all of them centred, and on the same
digits at random places in a larger frame.

The answer at the end:
"""  # noqa: D400

# %%
# Two sets of images
# ------------------

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer
from skae.networks import ConvNetwork

X, y = load_digits(return_X_y=True)
X = X / 16


def moved(X, side, rng):
    """Digits at random places in frames of side x side pixels, as flat rows."""
    frames = np.zeros((len(X), side, side))
    corners = rng.integers(0, side - 7, size=(len(X), 2))
    for frame, image, (top, left) in zip(frames, X.reshape(-1, 8, 8), corners, strict=True):
        frame[top : top + 8, left : left + 8] = image
    return frames.reshape(len(X), -1)


image_sets = {"centred": X, "moved": moved(X, 12, np.random.default_rng(0))}

import sys
ep=int(sys.argv[1]) if len(sys.argv)>1 else 30
for name, rows in image_sets.items():
    side = round(rows.shape[1] ** 0.5)
    A, B = train_test_split(rows, stratify=y, random_state=0)
    for n, kw in {"dense": {}, "dense r": {"init":"random"}, "c16,32 r": {"init":"random", "network": ConvNetwork((1,side,side),(16,32))}, "c16,32": {"network": ConvNetwork((1,side,side),(16,32))},"c32,64 r": {"init":"random", "network": ConvNetwork((1,side,side),(32,64))},"c24,32 k5 r": {"init":"random", "network": ConvNetwork((1,side,side),(24,32),kernel_size=5)}}.items():
        t=perf_counter()
        import time; c=time.process_time()
        m=AutoencoderTransformer(16,max_epochs=ep,random_state=0,**kw).fit(A)
        print(name,n,"%.5f"%m.reconstruction_error(B).mean(), "%.1f"%(time.process_time()-c), sum(p.numel() for p in m.net_.module_.parameters()),flush=True)
