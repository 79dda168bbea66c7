package app

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/fusegate/fusegate/pkg/config"
	"github.com/fusegate/fusegate/pkg/install"
)

// settings are what is in force for a command, and which keys somebody has said
// something about.
type settings struct {
	config.Config
	said []string
}

// unset is what applies where nothing is said.
func unset() config.Config {
	c := config.Default()
	c.Image = image()
	return c
}

// addSettings adds the flags of a command that are settings, and --config.
func addSettings(fs *pflag.FlagSet, command config.Command) {
	fs.String("config", "", "configuration `file` in YAML, its keys the settings' names (env FUSEGATE_CONFIG; default ./fusegate.yaml if there is one)")
	for _, s := range config.Settings() {
		if slices.Contains(s.Commands, command) {
			addFlag(fs, s)
		}
	}
}

// addFlag adds the flag of a setting, which shows what applies without it.
func addFlag(fs *pflag.FlagSet, s config.Setting) {
	switch v := s.Of(unset()).(type) {
	case string:
		fs.String(s.Flag, v, s.Help)
	case bool:
		fs.Bool(s.Flag, v, s.Help)
	case int32:
		fs.Int32(s.Flag, v, s.Help)
	case time.Duration:
		fs.Duration(s.Flag, v, s.Help)
	case []string:
		fs.StringSlice(s.Flag, v, s.Help)
	default:
		panic(fmt.Sprintf("there is no flag for %T, the type of %s", v, s.Key))
	}
}

// load reads the settings of a command: flag, then environment, then file,
// then the default.
func load(cmd *cobra.Command) (settings, error) {
	values, err := valuesOf(cmd)
	if err != nil {
		return settings{}, refused(err)
	}
	c, err := config.Merged(values)
	if err != nil {
		return settings{}, err
	}
	return settings{Config: c.WithDefaults(), said: config.Keys(values)}, nil
}

// valuesOf is what flags, the environment and the file say, by key.
func valuesOf(cmd *cobra.Command) (map[string]any, error) {
	if variable := config.Variable("failure-policy"); isSet(variable) {
		return nil, fmt.Errorf("%s: %w", variable, config.ErrFailurePolicy)
	}
	v := viper.New()
	for _, s := range config.Settings() {
		f := cmd.Flags().Lookup(s.Flag)
		if f == nil {
			continue
		}
		errs := []error{v.BindEnv(s.Key, config.Variable(s.Flag))}
		if f.Changed { // else what it has is the default, which is config's to give
			errs = append(errs, v.BindPFlag(s.Key, f))
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
	}
	values, err := readFile(configFile(cmd))
	if err != nil {
		return nil, err
	}
	if err := v.MergeConfigMap(values); err != nil {
		return nil, err
	}
	return v.AllSettings(), nil
}

func isSet(variable string) bool {
	_, set := os.LookupEnv(variable)
	return set
}

// readFile returns what a configuration file says, by its keys, or nothing if
// the file has no name.
func readFile(file string) (map[string]any, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration file: %w", err)
	}
	values, err := config.Values(text)
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", file, err)
	}
	return values, nil
}

// defaultFile is read from the working folder when no file is named.
const defaultFile = "fusegate.yaml"

// configFile is the file named by flag or environment, else the default one if
// it is there. A variable that is set to nothing asks for no file at all.
func configFile(cmd *cobra.Command) string {
	named, _ := cmd.Flags().GetString("config")
	variable, set := os.LookupEnv(config.Variable("config"))
	if file := cmp.Or(named, variable); file != "" || set {
		return file
	}
	if info, err := os.Stat(defaultFile); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	cmd.PrintErrln("Using the settings in ./" + defaultFile)
	return defaultFile
}

// refused marks what asks for less safety as a refusal.
func refused(err error) error {
	if errors.Is(err, config.ErrFailurePolicy) || errors.Is(err, config.ErrNarrower) {
		return install.Refuse(err)
	}
	return err
}
