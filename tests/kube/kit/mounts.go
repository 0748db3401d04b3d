package main

import (
	"bufio"
	"os"
	"slices"
	"strings"
)

// mountsBelowRoot lists the mounts below the machine's root that containers are to see: not /proc, of which each
// gets a new one, and not what the kit itself has mounted.
func mountsBelowRoot(o *options) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		// The kernel writes blanks and backslashes as octal numbers.
		path := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[4])
		ours := within(path, o.at("layers")) || within(path, "/run/netns")
		if _, err := os.Stat(path); err == nil && path != "/" && !within(path, "/proc") && !ours {
			all = append(all, path)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	// A folder comes before what lies in it.
	slices.Sort(all)
	return slices.Compact(all), nil
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
