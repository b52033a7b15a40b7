"""What Mixpanel is: hosts, credentials, quota, windows, export and profile pages. No Singer in here."""
