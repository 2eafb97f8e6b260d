# Reads a listing of source files whose lines are `number|count|source`, with no count where there is
# nothing to execute. Prints line coverage by crate and the lines missed in gated files under the minimum.
# Fails when a gated crate is under the minimum, or a required one wasn't measured.
# Only crates/*/src counts, without test modules. Variables: root, gated, required, minimum.

/^\/.*\.rs:?$/ {
    file = ""
    previous = ""
    in_tests = 0
    path = $0
    sub(/:$/, "", path)
    if (index(path, root) == 1)
        open_file(substr(path, length(root) + 1))
    next
}

file != "" && /^ *[0-9]+\| *[0-9.]*[kMGTPE]?\|/ {
    split($0, field, "|")
    source = substr($0, length(field[1]) + length(field[2]) + 3)
    if (previous == "#[cfg(test)]" && source ~ /^(pub(\([a-z]+\))? )?mod .*\{/)
        in_tests = 1
    previous = source
    gsub(/ /, "", field[2])
    if (!in_tests && field[2] != "")
        count(field[1] + 0, field[2] != "0")
    if (source ~ /^\}/)
        in_tests = 0
}

function open_file(name) {
    crate = name
    sub(/\/.*/, "", crate)
    if (index(name, crate "/src/") != 1 || name ~ /\/tests(\.rs$|\/)/)
        return
    file = name
    files[++file_count] = file
    crate_of[file] = crate
    if (!(crate in lines))
        crates[++crate_count] = crate
    lines[crate] += 0
    run_end = 0
}

function count(line, is_covered) {
    lines[crate]++
    lines[file]++
    if (is_covered) {
        covered[crate]++
        covered[file]++
        run_end = 0
    } else {
        # Missed lines follow each other when nothing covered stands between them.
        if (!run_end)
            missed[file] = missed[file] " " line
        else
            sub(run_end == run_start ? "$" : "-[0-9]+$", "-" line, missed[file])
        if (!run_end)
            run_start = line
        run_end = line
    }
}

function percent(name) {
    return lines[name] ? 100 * covered[name] / lines[name] : 0
}

function fail(message) {
    print message
    failed = 1
}

END {
    printf "%-10s %8s %8s %8s\n", "crate", "lines", "covered", "percent"
    for (i = 1; i <= crate_count; i++)
        printf "%-10s %8d %8d %8.2f\n", crates[i], lines[crates[i]], covered[crates[i]], percent(crates[i])

    split(gated, names, " ")
    for (i in names)
        is_gated[names[i]] = 1
    for (i = 1; i <= file_count; i++)
        if (is_gated[crate_of[files[i]]] && percent(files[i]) < minimum)
            printf "%s: %.2f%%, missed:%s\n", files[i], percent(files[i]), missed[files[i]]

    for (i in names)
        if (lines[names[i]] && percent(names[i]) < minimum)
            fail(names[i] ": coverage is under " minimum "%")
    split(required, names, " ")
    for (i in names)
        if (!lines[names[i]])
            fail(names[i] ": nothing was measured")
    exit failed
}
