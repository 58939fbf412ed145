import pytest

from appfn.shim.errors import APPWRITE_VERSION, AppwriteError, Problem, invalid_argument


def test_a_body_has_what_every_sdk_reads() -> None:
    assert AppwriteError(Problem.FUNCTION_NOT_FOUND).body == {
        "message": "Function with the requested ID could not be found.",
        "code": 404,
        "type": "function_not_found",
        "version": APPWRITE_VERSION,
    }


def test_an_error_is_never_cached_and_may_say_when_to_come_back() -> None:
    assert AppwriteError(Problem.SERVER_ERROR).headers == {
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Expires": "0",
        "Pragma": "no-cache",
    }
    assert AppwriteError(Problem.RATE_LIMIT_EXCEEDED, retry_after=3).headers["Retry-After"] == "3"


def test_types_are_unique() -> None:
    types = [problem.type for problem in Problem]

    assert len(types) == len(set(types))


@pytest.mark.parametrize("problem", list(Problem))
def test_each_problem_has_a_status_of_an_error_and_a_sentence(problem: Problem) -> None:
    assert 400 <= problem.status <= 503
    assert problem.message


def test_an_argument_is_named() -> None:
    assert invalid_argument("data", "too long").message == "Invalid `data` param: too long"
