"""The settings: schema, reading and validation.

schema       the single definition of each setting: name, type, default, limits and description
validation   typed settings, and checks across settings
environment  settings from environment variables
errors       the error for invalid settings, and texts for its message
"""

from __future__ import annotations

from .errors import SettingsError
from .schema import Group, InsightsReport
from .validation import Settings

__all__ = ["Group", "InsightsReport", "Settings", "SettingsError"]
