"""What Mixpanel is: hosts, credentials, quota, windows, export, profile pages, lists. No Singer in here."""
