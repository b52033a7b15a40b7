"""A Singer tap that moves Mixpanel events and profiles, whole or not at all."""
