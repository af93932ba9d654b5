"""A run that failed says why: the errors that locust counted, without the names of its exceptions."""

from pathlib import Path

from loadtest.users.__main__ import reasons


def test_equal_errors_of_several_rows_are_one_reason(tmp_path: Path) -> None:
    (tmp_path / "locust_failures.csv").write_text(
        "Method,Name,Error,Occurrences,First Seen,Last Seen\n"
        "POST,chat,Unanswered('failed: 404 model_not_found'),6,,\n"
        "POST,session,Unanswered('failed: 404 model_not_found'),2,,\n"
        "POST,chat,Unanswered('refused: 429 rate_limit_exceeded'),3,,\n"
    )
    assert reasons(tmp_path) == {"failed: 404 model_not_found": 8, "refused: 429 rate_limit_exceeded": 3}


def test_a_run_without_a_list_has_no_reasons(tmp_path: Path) -> None:
    assert reasons(tmp_path) == {}
