package cost

import "maps"

// check looks at the operands of a call before it is made, counts the steps that
// the call takes at most and tells whether they, and what it gives at most, are
// within the limits.
type check func(c *call) bool

// allowed are the builtins that policies may call, with what their calls cost:
// those of OPA without the ones that templates must not reach. What is not here
// does not compile.
var allowed = join(tests, numbers, collections, texts, encodings, patterns, others)

func join(lists ...map[string]check) map[string]check {
	out := map[string]check{}
	for _, l := range lists {
		maps.Copy(out, l)
	}
	return out
}

// Allowed tells whether policies may call a builtin.
func Allowed(name string) bool { return allowed[name] != nil }

// tests look at the outside of a value only, or compare two.
var tests = map[string]check{
	"is_array": free, "is_boolean": free, "is_null": free, "is_number": free, "is_object": free,
	"is_set": free, "is_string": free, "type_name": free,
	"cast_array": linear(1), "cast_set": linear(1), "cast_boolean": free, "cast_null": free, "cast_object": free, "cast_string": free,
	"assign": compared, "eq": compared, "equal": compared, "neq": compared,
	"lt": compared, "lte": compared, "gt": compared, "gte": compared,
	"count": counted, "internal.member_2": searched, "internal.member_3": keyed(0, 1),
	"any": counted, "all": counted,
	"rego.metadata.chain": free, "rego.metadata.rule": free, "time.now_ns": free, "trace": free,
	// Calls of these are taken out of policies, except to trace them.
	"print": free, "internal.print": linear(4), "internal.test_case": free,
}

// numbers may be as long as any text.
var numbers = map[string]check{
	"plus": arithmetic, "minus": arithmetic, "mul": arithmetic, "div": arithmetic, "rem": arithmetic,
	"abs": arithmetic, "ceil": arithmetic, "floor": arithmetic, "round": arithmetic, "format_int": arithmetic,
	"bits.and": arithmetic, "bits.or": arithmetic, "bits.xor": arithmetic, "bits.negate": arithmetic,
	"bits.rsh": arithmetic, "bits.lsh": shifted,
	"sum": folded, "product": folded, "max": ordered, "min": ordered,
	"numbers.range": ranged, "numbers.range_step": ranged, "rand.intn": linear(1),
	"to_number": parsedNumber, "units.parse": parsedNumber, "units.parse_bytes": parsedNumber,
}

var collections = map[string]check{
	"array.concat": linear(1), "array.flatten": linear(1), "array.reverse": linear(1), "array.slice": linear(1),
	"and": linear(1), "or": linear(1), "set_diff": linear(1), "union": linear(1), "intersection": linear(1),
	"sort": ordered, "walk": free,
	"object.get": keyed(1), "object.keys": linear(1), "object.filter": linear(1), "object.remove": linear(1),
	"object.union": linear(2), "object.union_n": linear(2), "object.subset": paired,
	"json.filter": linear(2), "json.remove": linear(2), "json.patch": patched,
	"graph.reachable": linear(1), "graph.reachable_paths": linear(1), // of our own
}

var texts = map[string]check{
	"concat": concatenated, "contains": linear(1), "startswith": linear(1), "endswith": linear(1),
	"indexof": searchedText, "indexof_n": searchedText, "substring": linear(5), "strings.count": linear(1),
	"lower": linear(3), "upper": linear(3), "strings.reverse": linear(5),
	"trim": linear(1), "trim_left": linear(1), "trim_right": linear(1), "trim_space": linear(1),
	"trim_prefix": linear(1), "trim_suffix": linear(1),
	"replace": replaced, "strings.replace_n": replacedMany, "split": split, "strings.split_n": split,
	"strings.any_prefix_match": ordered, "strings.any_suffix_match": ordered,
	"sprintf": formatted, "internal.template_string": linear(5), "strings.render_template": linear(1), // of our own
	"semver.compare": linear(1), "semver.is_valid": linear(1), "uuid.parse": linear(4), "uuid.rfc4122": linear(1),
}

var encodings = map[string]check{
	"base64.decode": linear(1), "base64.encode": linear(2), "base64.is_valid": linear(1),
	"base64url.decode": linear(1), "base64url.encode": linear(2), "base64url.encode_no_pad": linear(2),
	"hex.decode": linear(1), "hex.encode": linear(2),
	"urlquery.decode": linear(1), "urlquery.encode": linear(3), "urlquery.decode_object": linear(64), "urlquery.encode_object": linear(3),
	"uri.is_valid": linear(2), "uri.parse": linear(4),
	"json.marshal": linear(6), "json.marshal_with_options": indented, "json.unmarshal": jsonText, "json.is_valid": jsonText,
	"yaml.marshal": yamlWritten, "yaml.unmarshal": yamlText, "yaml.is_valid": yamlText,
	"rego.parse_module": source,
	"graphql.is_valid":  query, "graphql.parse": query, "graphql.parse_and_verify": query,
	"graphql.parse_query": query, "graphql.parse_schema": query, "graphql.schema_is_valid": query,
}

var patterns = map[string]check{
	"regex.match": matched, "re_match": matched, "regex.is_valid": compiled,
	"regex.find_n": found, "regex.find_all_string_submatch_n": found, "regex.split": found, "regex.replace": rewritten,
	"regex.template_match": templateMatched, "regex.globs_match": globsMatched,
	"glob.match": globMatched, "glob.quote_meta": linear(2),
}

var others = map[string]check{
	"crypto.md5": linear(1), "crypto.sha1": linear(1), "crypto.sha256": linear(1),
	"crypto.hmac.md5": linear(1), "crypto.hmac.sha1": linear(1), "crypto.hmac.sha256": linear(1), "crypto.hmac.sha512": linear(1),
	"crypto.hmac.equal":              linear(1),
	"crypto.x509.parse_certificates": certificates, "crypto.x509.parse_certificate_request": certificates,
	"crypto.x509.parse_and_verify_certificates":              verified,
	"crypto.x509.parse_and_verify_certificates_with_options": verified,
	"crypto.x509.parse_keypair":                              signed, "crypto.x509.parse_rsa_private_key": signed, "crypto.parse_private_keys": signed,
	"io.jwt.decode": certificates, "io.jwt.decode_verify": verified,
	"io.jwt.encode_sign": signed, "io.jwt.encode_sign_raw": signed, "providers.aws.sign_req": certificates,
	"io.jwt.verify_eddsa": verified, "io.jwt.verify_es256": verified, "io.jwt.verify_es384": verified, "io.jwt.verify_es512": verified,
	"io.jwt.verify_hs256": verified, "io.jwt.verify_hs384": verified, "io.jwt.verify_hs512": verified,
	"io.jwt.verify_ps256": verified, "io.jwt.verify_ps384": verified, "io.jwt.verify_ps512": verified,
	"io.jwt.verify_rs256": verified, "io.jwt.verify_rs384": verified, "io.jwt.verify_rs512": verified,
	"net.cidr_contains": linear(1), "net.cidr_intersects": linear(1), "net.cidr_overlap": linear(1), "net.cidr_is_valid": linear(1),
	"net.cidr_contains_matches": networksPaired, "net.cidr_expand": networkExpanded, "net.cidr_merge": networksMerged,
	"time.add_date": linear(1), "time.clock": linear(1), "time.date": linear(1), "time.diff": linear(1), "time.format": linear(4),
	"time.parse_duration_ns": linear(1), "time.parse_ns": linear(1), "time.parse_rfc3339_ns": linear(1), "time.weekday": linear(1),
}
