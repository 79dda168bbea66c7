// Package servingcert makes, renews and serves the certificate of the webhook.
//
// The Rotator runs on the leader. It keeps an authority in a Secret that only the
// controller reads, has the API servers trust that authority, and then signs the
// certificate in the Secret that the webhook's pods mount. Files is the other
// side: it presents what lies in a folder, and reads it again when it changes.
//
// Both keys are ECDSA P-256: a handshake costs the webhook about a quarter of what
// it costs with RSA, and after a pause of the network API servers open connections
// by the hundred.
//
// The order is what counts. An API server must trust an authority before any pod
// presents a certificate of it, and as long as one may. So a new authority is
// stored first, then comes into the caBundle, and signs only after that; one that
// was replaced stays in the caBundle until the last certificate that it can have
// signed has expired. What is known of it survives a restart: it is in the Secrets.
package servingcert
