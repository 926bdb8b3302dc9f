"""What is registered is what the config accepts."""

from proxy.config.models import RouteSettings
from proxy.config.rules import PICKS
from proxy.contracts.base import registered
from proxy.routing.pick import PICKERS


def test_every_picker_that_the_config_accepts_is_there_and_no_other():
    assert set(PICKERS) == set(PICKS)
    for name in PICKS:
        assert RouteSettings.model_validate({"name": "r", "to": "a/m", "pick": name}).pick == name


def test_every_option_that_a_contract_declares_is_one_that_routes_have():
    declared = {name for point in registered().values() for name in getattr(point.load(), "route_settings", ())}
    said = RouteSettings.model_validate(
        {"name": "r", "to": "a/m", "dialect": "json", "errors": "frame", "reasoning_field": "both"}
    )
    assert set(said.options) == declared
