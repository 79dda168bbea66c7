package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fusegate/fusegate/pkg/exempt"
)

// Loss is what one configuration has and the next does without.
type Loss struct {
	// Exemptions are what is exempt no longer, each as "field value".
	Exemptions []string
	// Resets are the settings that go back to their defaults, each as
	// "key was value, will be value".
	Resets []string
}

// Lost compares what is in force with what will be. A setting is reset if it
// had a value of its own and will have the default, as after a run without the
// file or the flag that set it. unset is what applies where nothing is said:
// Default, with the Image of this version.
func Lost(was, will, unset Config) Loss {
	was, will, unset = was.WithDefaults(), will.WithDefaults(), unset.WithDefaults()
	l := Loss{Exemptions: unexempted(was.Exempt, will.Exempt)}
	for _, s := range settings {
		before, after, open := shown(s, was), shown(s, will), shown(s, unset)
		if s.resettable(was, will) && before != open && after == open {
			l.Resets = append(l.Resets, fmt.Sprintf("%s was %s, will be %s", s.Key, before, after))
		}
	}
	if was, will := was.Exempt.KubeSystemAccounts, will.Exempt.KubeSystemAccounts; was != will && will == exempt.AllAccounts {
		l.Resets = append(l.Resets, fmt.Sprintf("exempt.kubeSystemAccounts was %s, will be %s", was, will))
	}
	return l
}

// resettable reports whether a value that differs from the default means
// something in both.
func (s Setting) resettable(was, will Config) bool {
	switch s.Key {
	case "exempt": // is compared by itself
		return false
	case "caBundle": // goes with webhookURL
		return false
	case "servicePort", "webhookSources": // without pods there are none
		return was.InCluster() && will.InCluster()
	case "image": // another version of it is an upgrade
		return was.InCluster() && will.InCluster() && repository(was.Image) != repository(will.Image)
	}
	return s.PerProcess == ""
}

// shown is a value as a person reads it.
func shown(s Setting, c Config) string {
	var text string
	switch v := s.Of(c).(type) {
	case time.Duration:
		text = v.String()
	case []string:
		text = strings.Join(v, ",")
	default:
		text = fmt.Sprint(v)
	}
	if text == "" {
		return "empty"
	}
	return text
}

// repository is an image without its tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if at := strings.LastIndex(image, ":"); at > strings.LastIndex(image, "/") {
		image = image[:at]
	}
	return image
}

// single are the exemptions that are no lists, and whether one value exempts
// what another does not.
var single = map[string]func(was, will string) bool{
	"provider": func(was, will string) bool { return was != "" && was != will },
	"kubeSystemAccounts": func(was, will string) bool {
		return was == string(exempt.AllAccounts) && will != was
	},
	// Where Fusegate runs is exempt in any case, and elsewhere nothing is its.
	"ownNamespace": func(_, _ string) bool { return false },
}

// unexempted lists what was exempts and will does not.
func unexempted(was, will exempt.Options) []string {
	var out []string
	before, after := reflect.ValueOf(was), reflect.ValueOf(will)
	for _, f := range reflect.VisibleFields(before.Type()) {
		key, old, now := keyOf(f), before.FieldByIndex(f.Index), after.FieldByIndex(f.Index)
		if f.Type.Kind() == reflect.String {
			if single[key](old.String(), now.String()) {
				out = append(out, fmt.Sprintf("%s %q", key, old.String()))
			}
			continue
		}
		for _, v := range old.Interface().([]string) {
			if !slices.Contains(now.Interface().([]string), v) {
				out = append(out, fmt.Sprintf("%s %q", key, v))
			}
		}
	}
	return out
}
