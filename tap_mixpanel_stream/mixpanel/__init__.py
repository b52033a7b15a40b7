"""Client for Mixpanel's APIs: credentials, quota, export, profile pages, reports. Does not depend on Singer."""
