from __future__ import annotations

from unittest.mock import Mock

from tap_mixpanel_stream.doctor.report import Report


def test_an_echoed_secret_is_masked_in_the_report() -> None:
    """A secret that a response repeats is masked in the report."""
    stdout = Mock()
    Report(stdout, ["very-s3cret"]).problem("profiles", "It said: no very-s3cret here")
    stdout.write.assert_called_once_with(b"problem  profiles      It said: no *** here\n")
