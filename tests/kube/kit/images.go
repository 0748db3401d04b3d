package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// image says what stands for one, since none is read. In the file it is this, or a list that is the command alone.
type image struct {
	// What stands for the entrypoint; a container's own `command` replaces it and its `args` follow.
	Command []string
	// Folders before PATH, separated by colons: a container's own command may be found there.
	Path string
	Env  map[string]string
	// Folders of which each container sees an empty one.
	Private []string
	// Folders of this machine that containers see live and may write. Everything else of the machine they see as it was,
	// and what they write there is their own.
	Shared []string
}

func (i *image) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '[' {
		return json.Unmarshal(text, &i.Command)
	}
	type plain image
	return json.Unmarshal(text, (*plain)(i))
}

// images by pattern, in which * stands for any text.
type images map[string]image

func readImages(path string) (images, error) {
	if path == "" {
		return images{}, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	known := images{}
	if err := json.Unmarshal(text, &known); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return known, nil
}

// find takes the longest pattern that matches, since it says the most.
func (known images) find(name string) (image, bool) {
	best, found := "", false
	for pattern := range known {
		if matches(pattern, name) && (!found || len(pattern) > len(best) || (len(pattern) == len(best) && pattern < best)) {
			best, found = pattern, true
		}
	}
	return known[best], found
}

func matches(pattern, name string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	name, ok := strings.CutPrefix(name, first)
	if !ok {
		return false
	}
	for start := range len(name) + 1 {
		if matches(rest, name[start:]) {
			return true
		}
	}
	return false
}
