#compdef tunnel
# zsh completion for tunnel

_tunnel() {
    local program=tunnel line value
    local -a described folders
    [[ $words[1] == */* ]] && program=${(Q)words[1]}
    for line in "${(@f)$("$program" complete -- "${(@Q)words[1,CURRENT]}" 2>/dev/null)}"; do
        value=${line%%$'\t'*}
        if [[ -z $value ]]; then
            continue
        elif [[ $value == */ ]]; then
            folders+=("$value")
        else
            described+=("${value//:/\\:}:${line#*$'\t'}")
        fi
    done
    (( $#folders )) && compadd -S '' -a folders
    _describe tunnel described
}

if [[ $funcstack[1] == _tunnel ]]; then
    _tunnel "$@"
else
    compdef _tunnel tunnel
fi
