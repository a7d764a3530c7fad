# fish completion for tunnel

function __tunnel_complete
    set --local words (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token --cut-at-cursor)
    set --local program tunnel
    string match --quiet '*/*' -- $words[1]; and set program $words[1]
    command $program complete -- $words 2>/dev/null
end

complete --command tunnel --no-files --keep-order --arguments '(__tunnel_complete)'
