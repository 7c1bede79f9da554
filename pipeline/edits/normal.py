"""A rectifier of a normal variable, in closed form: what batch norm alone says of an activation.

For z ~ N(beta, gamma^2) and r_t = max(z - t, 0), with u = (beta - t) / gamma:

    E r_t   = (beta - t) Phi(u) + gamma phi(u)
    E r_t^2 = ((beta - t)^2 + gamma^2) Phi(u) + (beta - t) gamma phi(u)

ReLU is r_0, ReLU6 is r_0 - r_6 and its square r_0^2 - r_6^2 - 12 r_6. By Stein's lemma the
least-squares slope is a = E psi' = Phi(beta / gamma) [- Phi((beta - 6) / gamma)], hence for ReLU
a = Phi(beta / gamma) and c = gamma phi(beta / gamma).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

KINDS = ("relu", "relu6")


@dataclass(frozen=True, slots=True)
class Rectified:
    """Per neuron: the stand-in a z + c, Var psi, and what of it the stand-in leaves."""

    a: np.ndarray
    c: np.ndarray
    variance: np.ndarray
    unexplained: np.ndarray


def rectified(kind: str, beta: np.ndarray, gamma: np.ndarray) -> Rectified:
    """The moments of relu(z) or relu6(z); gamma = 0 is a constant z."""
    if kind not in KINDS:
        raise ValueError(f"no closed form for {kind!r}; there is one for: {', '.join(KINDS)}")
    slope, mean, square = _above(0.0, beta, gamma)
    if kind == "relu6":
        slope_6, mean_6, square_6 = _above(6.0, beta, gamma)
        slope, mean, square = slope - slope_6, mean - mean_6, square - square_6 - 12 * mean_6
    variance = np.maximum(square - mean**2, 0.0)
    unexplained = np.maximum(variance - slope**2 * gamma**2, 0.0)
    return Rectified(slope, mean - slope * beta, variance, unexplained)


def error_probability(beta: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """How often z has another sign than beta: Phi(-|beta| / |gamma|), 0 where gamma is 0."""
    spread = np.abs(gamma)
    ratio = np.abs(beta) / np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, ndtr(-ratio), 0.0)


def _above(
    threshold: float, beta: np.ndarray, gamma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Phi(u), E r_t and E r_t^2."""
    over = beta - threshold
    u = over / np.where(gamma > 0, gamma, 1.0)
    on = np.where(gamma > 0, ndtr(u), (over > 0).astype(float))
    density = np.where(gamma > 0, np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi), 0.0)
    mean = over * on + gamma * density
    return on, mean, (over**2 + gamma**2) * on + over * gamma * density
