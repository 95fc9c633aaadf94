"""Parts of dates as tensors.

Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (civil_from_days).
"""

from __future__ import annotations

import torch
from torch import Tensor

DAY_S = 86_400


def date_part(seconds: Tensor, part: str) -> Tensor:
    """`part` of times, as `runtime.columns.numbers` gives it.

    Parameters
    ----------
    seconds : Tensor[B] float64
        Since 1970, UTC; finite.

    Examples
    --------
    >>> date_part(torch.tensor([1.7e9], dtype=torch.float64), "year").tolist()
    [2023.0]
    """
    if part in ("value", "epoch_s"):
        return seconds
    days = torch.floor(seconds / DAY_S)
    within = seconds - days * DAY_S
    match part:
        case "hour":
            return torch.floor(within / 3600)
        case "minute":
            return torch.floor(within / 60) - 60 * torch.floor(within / 3600)
        case "weekday":  # 1 January 1970 was a Thursday, which is 3
            return days + 3 - 7 * torch.floor((days + 3) / 7)
    year, month, day = _civil(days)
    return {"year": year, "month": month, "day": day}[part]


def _civil(days: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(year, month, day) in the Gregorian calendar."""
    shifted = days + 719_468  # from 1 March of year 0 on
    era = torch.floor(shifted / 146_097)
    day_of_era = shifted - era * 146_097
    year_of_era = torch.floor(
        (
            day_of_era
            - torch.floor(day_of_era / 1_460)
            + torch.floor(day_of_era / 36_524)
            - torch.floor(day_of_era / 146_096)
        )
        / 365
    )
    day_of_year = day_of_era - (
        365 * year_of_era + torch.floor(year_of_era / 4) - torch.floor(year_of_era / 100)
    )
    month_from_march = torch.floor((5 * day_of_year + 2) / 153)
    day = day_of_year - torch.floor((153 * month_from_march + 2) / 5) + 1
    month = torch.where(month_from_march < 10, month_from_march + 3, month_from_march - 9)
    year = year_of_era + era * 400 + (month < 3)
    return year, month, day
