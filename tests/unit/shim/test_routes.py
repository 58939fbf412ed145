from appfn.shim.rest.operation import Answer
from appfn.shim.rest.routes import answered


def test_an_answer_without_content_has_a_type_that_no_sdk_parses() -> None:
    answer = answered(Answer(status=204))

    assert answer.headers["Content-Type"] == "text/plain"
    assert not answer.body
