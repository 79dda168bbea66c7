package config

import (
	"encoding/base64"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
)

// strictness is how values become settings.
type strictness bool

const (
	// strict is for files: keys are as they are documented, and every value
	// has the type of its setting.
	strict strictness = true
	// lenient is for what several sources say: keys may have another case, and
	// values may come from the environment and then are strings.
	lenient strictness = false
)

func decode(in map[string]any, out *Config, how strictness) error {
	var meta mapstructure.Metadata
	match := strings.EqualFold
	if how == strict {
		match = func(a, b string) bool { return a == b }
	}
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: out, Metadata: &meta, TagName: "json",
		WeaklyTypedInput: how == lenient, MatchName: match,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(bytesHook, wholeHook, durationHook, listHook),
	})
	if err != nil {
		return err
	}
	if err := d.Decode(in); err != nil {
		return errors.Join(explain(err, how)...)
	}
	slices.Sort(meta.Unused)
	if len(meta.Unused) > 0 {
		return refuse(meta.Unused[0])
	}
	return nil
}

// bytesHook reads bytes as Kubernetes writes them.
func bytesHook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to != reflect.TypeFor[[]byte]() {
		return data, nil
	}
	out, err := base64.StdEncoding.DecodeString(data.(string))
	if err != nil {
		return nil, fmt.Errorf("want base64: %w", err)
	}
	return out, nil
}

// errRange refuses numbers that are too big for any setting.
var errRange = fmt.Errorf("want a number up to %d", math.MaxInt32)

// wholeHook refuses numbers that would be cut where numbers are whole.
func wholeHook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.Float64 || to.Kind() != reflect.Int32 {
		return data, nil
	}
	f := data.(float64)
	switch {
	case f != math.Trunc(f):
		return nil, fmt.Errorf("%v: want a whole number", f)
	case f < math.MinInt32 || f > math.MaxInt32:
		return nil, fmt.Errorf("%.0f: %w", f, errRange)
	}
	return int64(f), nil
}

// durationHook reads durations as Go writes them, so that none lacks its unit.
func durationHook(_, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() {
		return data, nil
	}
	if d, ok := data.(time.Duration); ok {
		return d, nil
	}
	text, _ := data.(string)
	d, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("%#v: want a duration such as 30m or 1h", data)
	}
	return d, nil
}

// listHook reads lists as flags have them, which files may write too.
func listHook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.String || to != reflect.TypeFor[[]string]() {
		return data, nil
	}
	text := data.(string)
	if text == "" {
		return []string{}, nil
	}
	out, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, fmt.Errorf(`%q: want values with commas in between, in quotes where one holds a comma or a quote`, text)
	}
	return out, nil
}

// explain says in words what mapstructure says in Go types.
func explain(err error, how strictness) []error {
	var out []error
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			out = append(out, explain(e, how)...)
		}
		return out
	}
	var at *mapstructure.DecodeError
	if !errors.As(err, &at) {
		return []error{err}
	}
	return []error{fmt.Errorf("%s: %w", source(at.Name(), how), reason(at.Unwrap()))}
}

// source names where a value comes from that has the wrong type.
func source(key string, how strictness) string {
	if s, ok := Find(key); ok && how == lenient && s.Flag != "" {
		return Variable(s.Flag)
	}
	return key
}

func reason(err error) error {
	var parse *mapstructure.ParseError
	var kind *mapstructure.UnconvertibleTypeError
	switch {
	case errors.As(err, &parse) && errors.Is(parse.Err, strconv.ErrRange):
		return fmt.Errorf("%#v: %w", parse.Value, errRange)
	case errors.As(err, &parse):
		return fmt.Errorf("%#v: want %s", parse.Value, wanted(parse.Expected.Kind()))
	case errors.As(err, &kind):
		return fmt.Errorf("%#v: want %s", kind.Value, wanted(kind.Expected.Kind()))
	}
	return err
}

func wanted(k reflect.Kind) string {
	switch k {
	case reflect.Int32:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text; put it in quotes"
	case reflect.Slice:
		return "a list, as in [a, b]"
	case reflect.Struct:
		return "keys below it"
	}
	return "a " + k.String()
}
