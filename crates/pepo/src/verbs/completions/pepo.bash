# bash completion for pepo. The command itself knows what may stand where.

_pepo() {
    # The words up to the cursor as they were typed: bash has broken them at = and : too.
    local rest="${COMP_LINE:0:COMP_POINT}" trimmed part words=()
    for part in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        trimmed="${rest#"${rest%%[![:space:]]*}"}"
        part="${part:0:${#trimmed}}"
        if [[ ${#words[@]} -gt 0 && $trimmed == "$rest" ]]; then
            words[${#words[@]}-1]+="$part"
        else
            words+=("$part")
        fi
        rest="${trimmed:${#part}}"
    done
    local current="${words[${#words[@]}-1]}" line how=0 candidates=()
    while IFS= read -r line; do
        case "$line" in
            :[0-9]*) how="${line#:}" ;;
            *) candidates+=("${line%%$'\t'*}") ;;
        esac
    done < <("${1/#\~/$HOME}" __complete "${words[@]:1}" 2>/dev/null)
    # bash replaces only what stands behind the last place where it breaks words.
    local cut="${current%"${current##*[$COMP_WORDBREAKS]}"}"
    COMPREPLY=()
    for line in "${candidates[@]}"; do
        COMPREPLY+=("${line#"$cut"}")
    done
    if ((how & 2)); then compopt -o nospace; fi
    if ((!(how & 4) && ${#COMPREPLY[@]} == 0)); then compopt -o default; fi
} 2>/dev/null

complete -F _pepo pepo kubectl-pepo
