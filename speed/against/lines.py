"""How much code each checkout has: lines that are neither blank, comment nor docstring, and all lines, by floor."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

FLOORS = ("sightline", "gateway", "services", "models")
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Lines of Python that hold code."""
    strings = set()
    for node in ast.walk(ast.parse(source)):
        # A docstring, or a string that stands below what it tells of.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            strings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    held = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            held |= set(range(token.start[0], token.end[0] + 1))
    return len(held - strings)


def table(old: Path, new: Path) -> list[str]:
    """A markdown table with a row a floor."""
    lines = ["| floor | files | lines of code | all lines |", "|---|---|---|---|"]
    sums: Counter[tuple[str, str]] = Counter()
    for floor in (*FLOORS, "all"):
        for side, root in (("old", old), ("new", new)):
            if floor == "all":
                continue
            for path in (root / floor).rglob("*.py"):
                source = path.read_text(encoding="utf-8")
                counts = {"files": 1, "code": code_lines(source), "lines": len(source.splitlines())}
                for what, count in counts.items():
                    sums[f"{side} {floor}", what] += count
                    sums[f"{side} all", what] += count
        cells = [_cell(sums[f"old {floor}", what], sums[f"new {floor}", what]) for what in ("files", "code", "lines")]
        lines.append(f"| {floor} | {' | '.join(cells)} |")
    return lines


def _cell(old: int, new: int) -> str:
    return f"{old:,} → {new:,} ({new - old:+,})"
