"""Merge adjacent linear operators of an ONNX graph, exactly, with a certificate."""

from pipeline.collapse.certificate import Certificate, certify
from pipeline.collapse.collapsing import Collapsed, Merged, collapse

__all__ = ["Certificate", "Collapsed", "Merged", "certify", "collapse"]
