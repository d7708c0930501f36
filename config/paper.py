"""Settings of the paper venue."""

from decimal import Decimal

from pydantic import Field

from pipeline.models import Frozen


class PaperSettings(Frozen):
    """The simulated venue's money and costs. Source: STAGES 8."""

    starting_cash: Decimal = Field(Decimal(100_000), gt=0, description="dollars the account starts with")
    slippage_bps: Decimal = Field(
        Decimal(5), ge=0, le=1_000, description="basis points against us on market and stop fills"
    )
    fee_per_share: Decimal = Field(Decimal(0), ge=0, le=10, decimal_places=6, description="dollars per share filled")
    fee_per_order: Decimal = Field(Decimal(0), ge=0, le=1_000, decimal_places=6, description="dollars per fill")
    hard_to_borrow: frozenset[str] = Field(frozenset(), description="symbols whose short entries are rejected")
