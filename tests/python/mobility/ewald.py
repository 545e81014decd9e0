"""Beenakker's Ewald sum of the periodic Rotne-Prager tensor in NumPy: slow, independent, for tests."""

from __future__ import annotations

import numpy as np
from scipy.special import erfc


def periodic_rpy(cell, x, radius, viscosity, xi=None, real=3, reciprocal=9):
    """(B,3n,3n) mobility of configurations x (B,n,3) without overlap, k = 0 left out.

    Source: C. W. J. Beenakker, J. Chem. Phys. 85 (1986) 1581, equations 5-6 and the self term.
    """
    cell = np.asarray(cell, float)
    x = np.asarray(x, float)
    volume = abs(np.linalg.det(cell))
    xi = np.sqrt(np.pi) / volume ** (1 / 3) if xi is None else xi
    a, a3 = radius, radius**3
    batch, n = x.shape[:2]
    d0 = x[:, :, None] - x[:, None]
    d0 -= np.round(d0 @ np.linalg.inv(cell)) @ cell
    out = np.zeros((batch, n, n, 3, 3))
    eye = np.eye(3)
    g = np.arange(-real, real + 1)
    for shift in np.stack(np.meshgrid(g, g, g, indexing="ij"), -1).reshape(-1, 3):
        d = d0 + shift @ cell
        r = np.linalg.norm(d, axis=-1)
        zero = r < 1e-12
        r = np.where(zero, 1.0, r)
        e = np.exp(-((xi * r) ** 2)) / np.sqrt(np.pi)
        c = erfc(xi * r)
        iso = c * (0.75 * a / r + 0.5 * a3 / r**3) + e * (
            4 * xi**7 * a3 * r**4
            + 3 * xi**3 * a * r**2
            - 20 * xi**5 * a3 * r**2
            - 4.5 * xi * a
            + 14 * xi**3 * a3
            + xi * a3 / r**2
        )
        dyad = c * (0.75 * a / r - 1.5 * a3 / r**3) + e * (
            -4 * xi**7 * a3 * r**4
            - 3 * xi**3 * a * r**2
            + 16 * xi**5 * a3 * r**2
            + 1.5 * xi * a
            - 2 * xi**3 * a3
            - 3 * xi * a3 / r**2
        )
        u = d / r[..., None]
        term = (
            iso[..., None, None] * eye + dyad[..., None, None] * u[..., :, None] * u[..., None, :]
        )
        out += np.where(zero[..., None, None], 0.0, term)
    g = np.arange(-reciprocal, reciprocal + 1)
    m = np.stack(np.meshgrid(g, g, g, indexing="ij"), -1).reshape(-1, 3)
    m = m[(m != 0).any(1) & ((m * m).sum(1) <= reciprocal**2)]
    k = 2 * np.pi * m @ np.linalg.inv(cell).T
    k2 = (k * k).sum(1)
    q = k2 / (4 * xi**2)
    w = (a - a3 * k2 / 3) * (1 + q + 2 * q**2) * 6 * np.pi / k2 * np.exp(-q) / volume
    proj = (w[:, None, None] * (eye - k[:, :, None] * k[:, None, :] / k2[:, None, None])).reshape(
        -1, 9
    )
    for b in range(batch):
        phase = d0[b].reshape(-1, 3) @ k.T
        out[b] += (np.cos(phase) @ proj).reshape(n, n, 3, 3)
    i = np.arange(n)
    out[:, i, i] += (1 - 6 * xi * a / np.sqrt(np.pi) + 40 * xi**3 * a3 / (3 * np.sqrt(np.pi))) * eye
    out = out.transpose(0, 1, 3, 2, 4).reshape(batch, 3 * n, 3 * n)
    return out / (6 * np.pi * viscosity * radius)
