# bash completion for tunnel

_tunnel() {
    # bash takes words apart at the characters of COMP_WORDBREAKS, `@`, `:` and `=` among them. They are put together again,
    # up to the cursor, and what comes back loses what stands before the part that bash will replace.
    local line=${COMP_LINE:0:COMP_POINT} words=() i piece rest last=-1
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        rest=${line#"${line%%[![:space:]]*}"}
        ((i == COMP_CWORD)) && piece=$rest
        if ((i == 0)) || [[ $rest != "$line" ]]; then
            words[++last]=$piece
        else
            words[last]+=$piece
        fi
        line=${rest#"$piece"}
    done
    local before=${words[last]%"$2"} program=tunnel value description
    [[ $1 == */* ]] && program=$1
    COMPREPLY=()
    while IFS=$'\t' read -r value description; do
        COMPREPLY+=("${value#"$before"}")
    done < <("$program" complete -- "${words[@]}" 2>/dev/null)
    if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

complete -F _tunnel tunnel
