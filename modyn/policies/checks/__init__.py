"""Does a policy keep its promises? Checks for your own triggers and selections.

    from modyn.policies.checks import check_selection, check_trigger

    check_trigger(MyTrigger(every=100))
    check_selection(MySelection(ratio=50))

Each check runs the policy over a made-up stream of some hundred samples in several ways that must
come to the same answers. What fails raises `CheckError`, whose message says what was seen and what
to do about it. Pass a policy, or a factory such as a class; a policy itself is not run, but others
made from its parameters.
"""

from modyn.policies.checks.common import CheckError, example_stream
from modyn.policies.checks.selection import check_selection
from modyn.policies.checks.trigger import check_trigger

__all__ = ["CheckError", "check_selection", "check_trigger", "example_stream"]
