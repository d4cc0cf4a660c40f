#compdef pepo kubectl-pepo
# zsh completion for pepo. The command itself knows what may stand where.

_pepo() {
    local line how=0
    local -a candidates space
    while IFS= read -r line; do
        case "$line" in
            :[0-9]*) how="${line#:}" ;;
            *) candidates+=("${${line%%$'\t'*}//:/\\:}${${(M)line:#*$'\t'*}:+:${line#*$'\t'}}") ;;
        esac
    done < <("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    (( how & 2 )) && space=(-S '')
    if (( ${#candidates} )); then
        _describe -V 'pepo' candidates "${space[@]}"
    elif (( ! (how & 4) )); then
        _files
    fi
}

if [ "$funcstack[1]" = "_pepo" ]; then
    _pepo "$@"
else
    compdef _pepo pepo kubectl-pepo
fi
