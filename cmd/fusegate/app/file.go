package app

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// readFile returns what a configuration file says, by its keys, or nothing if
// the file has no name. It refuses what is not a setting, and values of the
// wrong type: a typing error must not leave an exemption out unnoticed.
func readFile(file string) (map[string]any, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration file: %w", err)
	}
	values, err := parse(text)
	if err == nil {
		err = decode(values, &settings{}, strict)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", file, err)
	}
	return values, nil
}

// parse reads YAML of one document.
func parse(text []byte) (map[string]any, error) {
	var values map[string]any
	r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := r.Read()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		var content any
		if err := yaml.UnmarshalStrict(document, &content); err != nil {
			return nil, err
		}
		keys, ok := content.(map[string]any)
		switch {
		case content == nil:
			continue
		case !ok:
			return nil, errors.New(`holds no keys; write them as in "timeoutSeconds: 2"`)
		case values != nil:
			return nil, errors.New("holds more than one YAML document; only one is possible")
		}
		values = keys
	}
}

// strictness tells how values become settings.
type strictness bool

const (
	// strict is for files: keys are as they are documented, and every value
	// has the type of its setting.
	strict strictness = true
	// lenient is for what viper hands out: keys in lower case, and values that
	// may come from the environment and then are strings.
	lenient strictness = false
)

func decode(in map[string]any, out *settings, how strictness) error {
	var meta mapstructure.Metadata
	match := strings.EqualFold
	if how == strict {
		match = func(a, b string) bool { return a == b }
	}
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: out, Metadata: &meta, TagName: "json", Squash: true,
		WeaklyTypedInput: how == lenient, MatchName: match,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(base64Hook, wholeHook, durationHook, mapstructure.StringToSliceHookFunc(",")),
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

// wholeHook refuses fractions where numbers are whole, which would be cut.
func wholeHook(from, to reflect.Type, data any) (any, error) {
	if from.Kind() != reflect.Float64 || to.Kind() != reflect.Int32 {
		return data, nil
	}
	f := data.(float64)
	if f != math.Trunc(f) || math.Abs(f) > math.MaxInt32 {
		return nil, fmt.Errorf("%v: want a whole number", f)
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

// source names where a value comes from that has the wrong type. In the merged
// settings that can be the environment only, as flags and files are checked.
func source(key string, how strictness) string {
	for flag, k := range flagKeys {
		if how == lenient && k == key {
			return envName(flag)
		}
	}
	return key
}

func reason(err error) error {
	var parse *mapstructure.ParseError
	var kind *mapstructure.UnconvertibleTypeError
	switch {
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
	}
	return "a " + k.String()
}
