plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "kerasehrnet"
    compileSdk = 35
    defaultConfig {
        applicationId = "kerasehrnet.poses"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlinOptions { jvmTarget = "17" }
    // Only what is stored as it is can be mapped into memory.
    androidResources {
        noCompress += "tflite"
        ignoreAssetsPattern = "!*.h5:!*.md"
    }
    // The weights that come with the Python package.
    sourceSets["main"].assets.srcDir("../../../keras_ehrnet/weights/packaged")
}

dependencies {
    val camera = "1.4.1"
    implementation("androidx.activity:activity-ktx:1.9.3")
    implementation("androidx.camera:camera-camera2:$camera")
    implementation("androidx.camera:camera-lifecycle:$camera")
    implementation("androidx.core:core-ktx:1.15.0")
    implementation("com.google.ai.edge.litert:litert:1.0.1")
    implementation("com.google.ai.edge.litert:litert-gpu:1.0.1")
    implementation("com.google.ai.edge.litert:litert-gpu-api:1.0.1")
    testImplementation("junit:junit:4.13.2")
    testImplementation("net.java.dev.jna:jna:5.13.0")
    testImplementation("org.json:json:20240303")
}
