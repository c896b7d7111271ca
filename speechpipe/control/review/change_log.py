"""The degrees of automation as changes of the service."""

from speechpipe.control.review.policy_repository import Automation
from speechpipe.monitor.change_log import ChangeSource, ServiceChange


def automation_changes(automation: Automation) -> ChangeSource:
    """Return the source of the policies' history. It raises SQLAlchemyError if the database cannot be used."""

    def changes(since: float, until: float) -> list[ServiceChange]:
        return [
            ServiceChange(
                entry.at,
                f"automation {entry.scope} {entry.revision}",
                f"{entry.action} of the automation of {entry.scope} from {entry.was or 'none'} to {entry.degree} "
                f"by {entry.actor}: {entry.reason}",
                told=entry.action == "demote",
            )
            for entry in automation.history()
            if since <= entry.at < until
        ]

    return changes
