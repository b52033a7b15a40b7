"""The settings: described, read, and checked.

schema       each setting once: its name, type, default, limits and description
validation   typed settings, and the checks that span settings
environment  settings from environment variables
errors       what the message about a refused setting says
"""

from __future__ import annotations

from .errors import SettingsError
from .schema import Group, InsightsReport
from .validation import Settings

__all__ = ["Group", "InsightsReport", "Settings", "SettingsError"]
