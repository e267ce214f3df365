"""The processes beside the gateway are started by their role; the older name of one is still understood."""

from __future__ import annotations

import pytest

from services.jobs import maintenance
from services.settings import Settings
from sightline.launcher import background


@pytest.mark.parametrize("role", ["maintenance", "keeper"])
def test_maintenance_starts_under_both_of_its_names(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []

    def serve(settings: Settings) -> int:
        served.append(settings)
        return 7

    monkeypatch.setattr(maintenance, "serve", serve)
    assert background.main([role]) == 7
    assert len(served) == 1
