"""What an output means, whatever a network calls it: tasks ask a card for roles, never for names of tensors."""

from __future__ import annotations

from typing import Literal

Role = Literal[
    "logits",
    "embedding",
    "modulation",
    "boxes",
    "scores",
    "labels",
    "count",
    "detections",
    "region_features",
    "image",
    "tokens",
    "token_logits",
]
"""``B`` items, each with up to ``N`` regions or ``L`` tokens:

- ``logits`` ``(B, C)``: one number a class, before softmax or sigmoid
- ``embedding`` ``(B, D)``: one vector an item
- ``modulation`` ``(B, h, w)``: how much each place of the image adds to the answer
- ``boxes`` ``(B, N, 4)``: left, top, right, bottom in pixels of the tensor that the network was given, unless the
  card's ``detection.decode`` says how else they are written
- ``scores`` ``(B, N)`` or ``(B, N, C)``: confidence of each box, or of each box and class or phrase token
- ``labels`` ``(B, N)``: number of each box's class
- ``count`` ``(B,)``: how many of the N are filled
- ``detections`` ``(B, N, K)``: one row a box with all that is known of it, as ``detection.decode`` says
- ``region_features`` ``(B, N, D)``: one vector a box
- ``image`` ``(B, 3, H, W)``: pictures that the network made
- ``tokens`` ``(B, L)``: ids of a text that the network made
- ``token_logits`` ``(B, L, V)``: one number a vocabulary entry, for each next token
"""
