"""The probes of tower-resilience-core around each layer, and alone: `tests/layers/traps/tower_contract.rs` has them."""

import functools

import cargo
from suite import Suite

NAME = "tower-resilience-core"
SUITES = (Suite("", "", ("upstream", "steadfast")),)


def install(pin):
    """Cargo brings it, as Cargo.lock pins it."""


def run(_, suite, subject):
    return next(cargo.cases(one) for one in reported() if one["subject"] == subject)


@functools.cache
def reported():
    return cargo.said(NAME, "steadfast-tests", "layers", ["tower_contract"])
