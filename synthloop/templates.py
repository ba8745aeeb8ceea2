"""Jinja templates that a config or a prompt folder brings: rendered in Jinja's sandbox, their mistakes named.

A config may come from somebody else, so a template in it reads what it is given and reaches nothing else of Python.
"""

from __future__ import annotations

from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from synthloop.errors import UserError

_RAISED = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What a template's own expressions raise beside Jinja's errors: `{{ input + 1 }}`, `{{ 1 // 0 }}`."""


def sandbox(**options: Any) -> jinja2.Environment:
    """An environment for templates from outside this package. An undefined variable in one is an error."""
    return ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, **options)


def syntax_error(source: str) -> str | None:
    """What is wrong with the Jinja of `source`, for a config's validator; None where it parses."""
    try:
        sandbox().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        return f"no Jinja template: {error.message}, line {error.lineno}"
    except RecursionError:
        return "no Jinja template: nested too deep"
    return None


def render(template: jinja2.Template, name: str, variables: dict[str, Any]) -> str:
    """The rendered text. Raises `UserError` that begins with `name` and says what the template did."""
    try:
        return template.render(**variables)
    except jinja2.UndefinedError as error:
        given = ", ".join(sorted(variables))
        raise UserError(f"{name}: {error.message}. It is given: {given}.") from error
    except SecurityError as error:
        raise UserError(f"{name}: refused: {error.message} A template may read its variables only.") from error
    except (jinja2.TemplateNotFound, jinja2.TemplateSyntaxError):  # of a file it includes: the caller names the folders
        raise
    except (jinja2.TemplateError, *_RAISED) as error:
        raise UserError(f"{name}: {type(error).__name__}: {error}.") from error
