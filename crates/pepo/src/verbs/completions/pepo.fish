# fish completion for pepo. The command itself knows what may stand where.

function __pepo_complete
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    set --local current (commandline --current-token --cut-at-cursor)
    set --local answer ($words[1] __complete $words[2..-1] $current 2>/dev/null)
    set --local how (string match --regex '^:[0-9]+$' -- $answer[-1] | string sub --start 2)
    test -n "$how"; or return
    if test (count $answer) -gt 1
        printf '%s\n' $answer[1..-2]
    else if test (math "bitand($how, 4)") -eq 0
        __fish_complete_path $current
    end
end

complete --command pepo --command kubectl-pepo --no-files --arguments '(__pepo_complete)'
