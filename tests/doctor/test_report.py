from __future__ import annotations

from unittest.mock import Mock

from tap_mixpanel_stream.doctor.report import Report


def test_a_report_shows_no_secret_that_an_answer_repeats() -> None:
    stdout = Mock()
    Report(stdout, ["very-s3cret"]).problem("profiles", "It said: no very-s3cret here")
    stdout.write.assert_called_once_with(b"problem  profiles      It said: no *** here\n")
