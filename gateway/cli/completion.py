"""`tidegate completion`: the names of commands, options, models and backends by the Tab key."""

from enum import StrEnum
from typing import Annotated, Final

import typer

_BASH: Final = r"""
_tidegate_completion() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}"
    COMPREPLY=($(_TIDEGATE_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args \
                 _TYPER_COMPLETE_ARGS="$line" tidegate 2>/dev/null | cut -f1))
    # Bash takes a colon for the end of a word: what is before it, as in pool/host:port, is not to be told again.
    local word="${line##*[ =]}"
    COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
}
complete -o default -F _tidegate_completion tidegate
"""
_ZSH: Final = r"""
#compdef tidegate
_tidegate_completion() {
    eval $(env _TIDEGATE_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" tidegate 2>/dev/null)
}
compdef _tidegate_completion tidegate
"""
_FISH: Final = r"""
function _tidegate_completion
    _TIDEGATE_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] _TYPER_COMPLETE_ARGS=(commandline -cp) \
        tidegate 2>/dev/null
end
complete --command tidegate --no-files --arguments "(_tidegate_completion get-args)" \
    --condition "_tidegate_completion is-args"
"""


class Shell(StrEnum):
    """The shells that there is completion for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help=f"One of {', '.join(Shell)}.")]) -> None:
    """Print what makes the Tab key complete commands in a shell.

    Put `source <(tidegate completion bash)` into ~/.bashrc, or the same with zsh into ~/.zshrc after compinit. Models
    and backends are completed too, while the gateway at TIDEGATE_ADMIN answers.
    """
    typer.echo({Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}[shell].strip())
